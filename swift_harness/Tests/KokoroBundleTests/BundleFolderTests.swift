import Foundation
import XCTest

@testable import KokoroBundle

final class BundleFolderTests: XCTestCase {
    func testAWholeBundleIsReadAsItWasWritten() throws {
        let bundle = try TemporaryBundle()
        let folder = try BundleFolder(bundle.url)
        XCTAssertEqual(folder.manifest.sampleRate, 24_000)
        XCTAssertEqual(folder.manifest.noise.seed, Int.max)
        XCTAssertEqual(folder.manifest.packages[0].computeUnits, .cpuAndNeuralEngine)
        XCTAssertEqual(folder.manifest.packages[0].functions[0].outputs[0].shape, [])
        XCTAssertEqual(folder.manifest.sample?.speed, 1)
        XCTAssertEqual(folder.manifest.tools["python"], "3.11")
        XCTAssertEqual(folder.manifest.parity.verdict, .notRun)
        XCTAssertEqual(folder.manifest.files.count, 5)
        XCTAssertEqual(try folder.vocabulary.encode("ab\u{303}"), [0, 1, 2, 17, 0])
    }

    func testTheVoiceOfTheSampleIsTheFirstAndTheDefault() throws {
        let bundle = try TemporaryBundle()
        let folder = try BundleFolder(bundle.url)
        XCTAssertEqual(folder.voices, ["high", "low"])
        XCTAssertEqual(try folder.voice().row(phonemeCount: 1), [100, 101, 102, 103])
        XCTAssertEqual(try folder.voice("low").row(phonemeCount: 3), [8, 9, 10, 11])
    }

    func testAnEmptyNameIsTheDefaultVoiceAsInPython() throws {
        let bundle = try TemporaryBundle()
        XCTAssertEqual(try BundleFolder(bundle.url).voice("").name, "high")
        let without = try TemporaryBundle(voices: [])
        let folder = try BundleFolder(without.url)
        assertRefused(6, "no voices") { try folder.voice("") }
    }

    func testAVoiceOfAnotherShapeThanTheNetworkTakesIsRefused() throws {
        for (rows, columns) in [(4, 3), (2, 6), (6, 2), (1, 12), (12, 1)] {
            let bundle = try TemporaryBundle()
            try bundle.change(
                #""rows": 3, "columns": 4"#, to: #""rows": \#(rows), "columns": \#(columns)"#)
            let folder = try BundleFolder(bundle.url)
            for voice in ["low", "low+high"] {
                assertRefused(
                    6, "voice low: expected shape [3, 4], found [\(rows), \(columns)]"
                ) { try folder.voice(voice) }
            }
        }
    }

    func testAConfigurationWithoutTheShapeOfItsVoicesIsRefused() throws {
        let bundle = try TemporaryBundle()
        for (text, other, said) in [
            (#""style_dim": 2"#, #""style_dim": 0"#, "style_dim must be a whole number above 0"),
            (#""style_dim": 2, "#, "", "style_dim must be a whole number above 0, found None"),
            (#""style_dim": 2"#, #""style_dim": \#(Int.max)"#, "2 x style_dim"),
            (#": 5}"#, #": 2}"#, "for 2 tokens"),
            (#": 5}"#, #": "5"}"#, "plbert.max_position_embeddings must be a whole number"),
            (#"{"max_position_embeddings": 5}"#, "5", "expected an object under 'plbert'"),
        ] {
            let changed = TemporaryBundle.configuration.replacingOccurrences(of: text, with: other)
            XCTAssertNotEqual(changed, TemporaryBundle.configuration)
            try bundle.write("config.json", Data(changed.utf8))
            assertRefused(4, "config.json", said) {
                try BundleFolder(bundle.url, verifying: false)
            }
        }
    }

    func testVoicesOfTheBundleAreBlended() throws {
        let bundle = try TemporaryBundle()
        let blend = try BundleFolder(bundle.url).voice("low*3+high*1")
        XCTAssertEqual(blend.name, "low*0.75+high*0.25")
        XCTAssertEqual(try blend.row(phonemeCount: 1), [25, 26, 27, 28])
    }

    func testAVoiceThatTheBundleDoesNotHaveIsNamedWithThoseItHas() throws {
        let bundle = try TemporaryBundle()
        let folder = try BundleFolder(bundle.url)
        assertRefused(6, "no voice 'loud'", "high, low") { try folder.voice("low+loud") }
    }

    func testVoicesOfEquivalentNamesAreTwoVoices() throws {
        let bundle = try TemporaryBundle()
        try bundle.change(#""name": "low""#, to: "\"name\": \"\u{E9}\"")
        try bundle.change(#""name": "high""#, to: "\"name\": \"e\u{301}\"")
        let folder = try BundleFolder(bundle.url)
        XCTAssertEqual(try folder.voice("\u{E9}").row(phonemeCount: 1)[0], 0)
        XCTAssertEqual(try folder.voice("e\u{301}").row(phonemeCount: 1)[0], 100)
    }

    func testABundleWithoutVoicesHasNoDefault() throws {
        let bundle = try TemporaryBundle(voices: [])
        let folder = try BundleFolder(bundle.url)
        assertRefused(6, "no voices") { try folder.voice() }
        assertRefused(6, "no voice 'high'; it has: none") { try folder.voice("high") }
    }

    func testAVoiceOfAnotherSizeThanTheManifestSaysIsRefused() throws {
        let bundle = try TemporaryBundle()
        try bundle.write("voices/low.bin", Data(count: 5))
        let folder = try BundleFolder(bundle.url, verifying: false)
        assertRefused(11, "'voices/low.bin'", "48 bytes", "found 5") { try folder.voice("low") }
    }

    func testAVoiceOfASizeThatNoFileHasIsRefused() throws {
        let bundle = try TemporaryBundle()
        for key in ["rows", "columns"] {
            let size = key == "rows" ? TemporaryBundle.rows : TemporaryBundle.columns
            try bundle.change("\"\(key)\": \(size)", to: "\"\(key)\": \(Int32.max)")
        }
        let folder = try BundleFolder(bundle.url)
        assertRefused(11, "found 48 bytes") { try folder.voice("low") }
    }

    func testAVocabularyWithoutItsNumberOfTokensIsRefused() throws {
        for wrong in ["", #""n_token": 0, "#, #""n_token": 1.0, "#, #""n_token": "9", "#] {
            assertRefused(4, "config.json: n_token must be a whole number above 0") {
                try Vocabulary(
                    configuration: Data("{\(wrong)\"vocab\": {\"a\": 1}}".utf8), maxPhonemes: 510)
            }
        }
    }

    func testAnIdThatNoNetworkTakesIsRefused() throws {
        let text = #"{"n_token": 99999999999, "vocab": {"a": 2147483648}}"#
        assertRefused(4, "id 2147483648") {
            try Vocabulary(configuration: Data(text.utf8), maxPhonemes: 510)
        }
    }

    func testFilesThatAreMissingChangedOrExtraAreAllNamed() throws {
        let bundle = try TemporaryBundle()
        try FileManager.default.removeItem(at: bundle.url.appendingPathComponent("sample.wav"))
        try bundle.write("voices/low.bin", Data(count: 48))
        try bundle.write("voices/new.bin", Data())
        try bundle.write("voices/.DS_Store", Data())
        assertRefused(
            11, "missing: sample.wav;", "changed: voices/low.bin;", "extra: voices/new.bin. "
        ) { try BundleFolder(bundle.url) }
    }

    func testASymbolicLinkIsRefused() throws {
        let bundle = try TemporaryBundle()
        try FileManager.default.createSymbolicLink(
            at: bundle.url.appendingPathComponent("link"),
            withDestinationURL: bundle.url.appendingPathComponent("sample.wav"))
        assertRefused(11, "link' is not a plain file") { try BundleFolder(bundle.url) }
    }

    func testAFolderWithoutAManifestIsNoBundle() {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        assertRefused(11, "is not a bundle", "manifest.json") { try BundleFolder(url) }
    }

    func testAnotherSchemaVersionIsNamed() throws {
        let bundle = try TemporaryBundle()
        try bundle.change(#""schema_version": 1"#, to: #""schema_version": 2"#)
        assertRefused(11, "schema version 2", "reads 1") { try BundleFolder(bundle.url) }
    }
}

final class ManifestFunctionsTests: XCTestCase {
    func testTheCutCompleteGivesItsShapesByFramesThenTokens() throws {
        let bundle = try TemporaryBundle([.complete((64, 200), (16, 400), (32, 200))])
        let manifest = try Manifest(bundle: bundle.url)
        XCTAssertFalse(manifest.hasPipeline)
        let buckets = try manifest.completeBuckets()
        XCTAssertEqual(buckets.shapes.map(\.tokens), [32, 64, 16])
        XCTAssertEqual(buckets.longest(maxPhonemes: 510), 62)
        let place = manifest.completeFunction(Bucket(tokens: 16, frames: 400))
        XCTAssertEqual(place?.function.name, "f1")
        XCTAssertNil(manifest.completeFunction(Bucket(tokens: 16, frames: 200)))
    }

    func testThePipelineGivesTheBucketsItsStagesShare() throws {
        let bundle = try TemporaryBundle(
            TemporaryBundle.Package.pipeline(
                tokens: [32, 16], frames: [40]))
        let manifest = try Manifest(bundle: bundle.url)
        XCTAssert(manifest.hasPipeline)
        let buckets = try manifest.pipelineBuckets()
        XCTAssertEqual(buckets.tokens, [16, 32])
        XCTAssertEqual(buckets.frames, [40])
        XCTAssertEqual(buckets.longest(maxPhonemes: 510), 30)
        XCTAssertEqual(buckets.longest(maxPhonemes: 20), 20)
        let place = manifest.pipelineFunction(.duration, size: 16)
        XCTAssertEqual(place?.package.file, "Duration.mlpackage")
        XCTAssertEqual(place?.function.name, "f1")
        XCTAssertNil(manifest.pipelineFunction(.tail, size: 16))
    }

    func testAPipelineWithoutAStageOrWithOtherBucketsIsRefused() throws {
        let whole = TemporaryBundle.Package.pipeline(tokens: [16], frames: [40])
        let other = TemporaryBundle.Package.pipeline(tokens: [16], frames: [40, 80])
        for packages in [Array(whole.dropLast()), Array(whole.dropLast() + other.suffix(1))] {
            let bundle = try TemporaryBundle(packages)
            assertRefused(11, "must have the same buckets", "Generator [40], Tail [") {
                try Manifest(bundle: bundle.url).pipelineBuckets()
            }
        }
    }

    func testABundleWithoutTheCutCompleteSaysSo() throws {
        let bundle = try TemporaryBundle(
            TemporaryBundle.Package.pipeline(
                tokens: [16], frames: [40]))
        assertRefused(11, "no package of the cut 'complete'") {
            try Manifest(bundle: bundle.url).completeBuckets()
        }
    }
}

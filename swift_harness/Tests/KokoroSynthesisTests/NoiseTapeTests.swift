import KokoroBundle
import KokoroSignal
import SynthesisSupport
import XCTest

@testable import KokoroSynthesis

final class NoiseTapeTests: XCTestCase {
    func testWhatWasForgottenIsDrawnAgain() async throws {
        let bundle = try TinyBundle()
        let manifest = try bundle.folder().manifest
        let cache = RunnerCache(provider: TinyStages(), policy: .keepAll)
        let speaker = try PipelineSpeaker(
            manifest, loader: StageLoader(cache: cache, observer: nil))
        let first = await speaker.noise.tensor(frames: 12, per: 4)
        XCTAssertEqual(first.shape, [1, 24, 2])
        _ = await speaker.noise.tensor(frames: 24, per: 4)
        let held = await speaker.noise.count
        XCTAssertEqual(held, 96)
        await speaker.unload()
        let left = await speaker.noise.count
        XCTAssertEqual(left, 0)
        let again = await speaker.noise.tensor(frames: 12, per: 4)
        XCTAssertEqual(try again.floats(), try first.floats())
    }

    func testFramesThatThePitchDoesNotDivideAreRefused() async throws {
        for samples in [1, 3] {
            let bundle = try TinyBundle()
            try bundle.change(
                #""samples_per_frame": 4"#, to: #""samples_per_frame": \#(samples)"#)
            await assertRefused(11, "frames of \(samples) samples cannot be") {
                try KokoroSynthesizer(bundle: bundle.folder(), stages: TinyStages())
            }
        }
    }
}

#if canImport(CoreML)
    import CoreML
    import Foundation
    import KokoroBundle
    import KokoroSynthesis

    /// One function of a package, loaded by Core ML.
    ///
    /// `@unchecked` because a model's asynchronous prediction may be called by several tasks at
    /// once (Apple, "Improve Core ML integration with async prediction", WWDC 2023), and nothing
    /// else of the model is used after it was checked.
    struct CoreMLRunner: FunctionRunner, @unchecked Sendable {
        let place: PackagedFunction
        private let model: MLModel

        /// Takes a loaded function.
        ///
        /// - Throws: `KokoroError.package` if it is not what the manifest says.
        init(place: PackagedFunction, model: MLModel) throws {
            self.place = place
            self.model = model
            let description = model.modelDescription
            try place.check(description.inputDescriptionsByName, place.function.inputs, "input")
            try place.check(description.outputDescriptionsByName, place.function.outputs, "output")
        }

        /// Loads a function out of a compiled package.
        ///
        /// - Throws: `KokoroError.package` if Core ML cannot.
        static func load(
            _ place: PackagedFunction, from compiled: URL, _ configuration: MLModelConfiguration
        ) async throws -> MLModel {
            do {
                return try await MLModel.load(contentsOf: compiled, configuration: configuration)
            } catch {
                throw failure(error, at: "loading \(place.title) from '\(compiled.path)'")
            }
        }

        func predict(_ inputs: [String: Tensor]) async throws -> [String: Tensor] {
            let arrays = try arrays(of: inputs)
            let found: any MLFeatureProvider
            do {
                let features = try MLDictionaryFeatureProvider(dictionary: arrays)
                found = try await model.prediction(from: features, options: MLPredictionOptions())
            } catch {
                throw failure(error, at: "running \(place.title)")
            }
            var outputs: [String: Tensor] = [:]
            for port in place.function.outputs {
                guard let array = found.featureValue(for: port.name)?.multiArrayValue,
                    let tensor = Tensor(array)
                else {
                    throw KokoroError.package("\(place.title) gave no array '\(port.name)'")
                }
                outputs[port.name] = tensor
            }
            return outputs
        }

        /// One array per declared input.
        private func arrays(of inputs: [String: Tensor]) throws -> [String: MLFeatureValue] {
            var arrays: [String: MLFeatureValue] = [:]
            for port in place.function.inputs {
                guard let tensor = inputs[port.name], tensor.type == port.type,
                    tensor.shape == port.shape
                else {
                    throw KokoroError.package(
                        "\(place.title) takes '\(port.name)' as \(port.type.rawValue) \(port.shape)"
                    )
                }
                arrays[port.name] = MLFeatureValue(multiArray: try tensor.multiArray())
            }
            guard inputs.count == arrays.count else {
                let unknown = inputs.keys.filter { arrays[$0] == nil }.sorted()
                throw KokoroError.package("\(place.title) has no inputs \(unknown)")
            }
            return arrays
        }
    }

    extension PackagedFunction {
        /// Package and function, for messages.
        var title: String { "\(package.file):\(function.name)" }

        /// What Core ML must be told to find the function: nothing where it is the only one, and
        /// systems that know no functions refuse any name.
        var functionName: String? {
            package.functions.count == 1 && function.name == "main" ? nil : function.name
        }

        /// Compares what a model says of itself with the manifest. A description need not give
        /// the shape of an output; what comes out is compared again.
        func check(
            _ described: [String: MLFeatureDescription], _ ports: [Manifest.Tensor], _ kind: String
        ) throws {
            let names = ports.map(\.name).sorted()
            guard described.keys.sorted() == names else {
                throw KokoroError.package(
                    "\(title) has the \(kind)s \(described.keys.sorted()), but the manifest "
                        + "says \(names)")
            }
            for port in ports {
                let found = described[port.name]?.multiArrayConstraint
                let shape = found?.shape.map(\.intValue) ?? []
                guard let type = found.flatMap({ Manifest.ElementType($0.dataType) }),
                    type == port.type, shape == port.shape || shape.isEmpty
                else {
                    let kindOfArray = found.flatMap { Manifest.ElementType($0.dataType) }
                    throw KokoroError.package(
                        "\(title) has the \(kind) '\(port.name)' of "
                            + "\(kindOfArray?.rawValue ?? "another type") \(shape), but the "
                            + "manifest says \(port.type.rawValue) \(port.shape)")
                }
            }
        }
    }

    extension MLModelConfiguration {
        /// How a function is loaded, and its plan.
        ///
        /// - Throws: `KokoroError.package` where the package has several functions and Core ML, or
        ///   what this was built with (before Xcode 16), knows none.
        package convenience init(
            for place: PackagedFunction, computeUnits: Manifest.ComputeUnits
        ) throws {
            self.init()
            self.computeUnits = computeUnits.coreML
            if let name = place.functionName { try choose(name, of: place.package) }
        }

        /// Asks for a function of a package.
        ///
        /// - Throws: as the initializer.
        private func choose(_ function: String, of package: Manifest.Package) throws {
            #if compiler(>=6)
                if #available(macOS 15, iOS 18, tvOS 18, watchOS 11, visionOS 2, *) {
                    functionName = function
                    return
                }
            #endif
            throw KokoroError.package(
                "\(package.file) has several functions, which need macOS 15 or iOS 18; convert "
                    + "the recipe kokoro-82m-ios17")
        }
    }

    extension Manifest.ComputeUnits {
        /// Core ML's name of it.
        var coreML: MLComputeUnits {
            switch self {
            case .all: return .all
            case .cpuOnly: return .cpuOnly
            case .cpuAndGPU: return .cpuAndGPU
            case .cpuAndNeuralEngine: return .cpuAndNeuralEngine
            }
        }
    }
#endif
